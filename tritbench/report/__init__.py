"""From measured rows to what people read: tables, figures, the HTML page, the Mermaid diagram."""

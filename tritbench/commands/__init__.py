"""What the commands of `tritbench` do, one module each; `tritbench.cli` parses for them."""

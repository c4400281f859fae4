"""The pages' templates, in the folder `page`."""

import jinja2

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("tritbench.report", "page"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

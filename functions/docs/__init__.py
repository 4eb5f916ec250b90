"""The OpenAPI document, the page that shows it, and the meaning of each problem type."""

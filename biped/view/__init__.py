"""What a person looks at and steers by: plots, curves, films, pages, live."""

"""What all pages are made of: figures, lines, words, tables, and the page that holds them."""

"""The backends, one package each. The torch backend defines the pixels; the others give the same bits."""

"""One module per language that tasklets are written in; `contract.py` is what each of them gives."""

print('tried: empty-objects')
from IPython.display import display
try:
    display({"application/json": [{}] * 7_000_000}, raw=True)
except Exception:
    pass

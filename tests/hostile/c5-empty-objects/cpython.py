print('tried: empty-objects')
from IPython.display import display
try:
    display({"application/json": [{}] * 2_000_000}, raw=True)
except Exception:
    pass

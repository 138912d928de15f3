print('tried: tiny-events')
import sys
for _ in range(1_000_000):
    print(file=sys.stderr, flush=True)

print('tried: tiny-events')
import sys
for _ in range(250_000):
    print(file=sys.stderr)

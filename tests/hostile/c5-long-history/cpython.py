print('tried: long-history')
import sys
for _ in range(480):
    print("x" * (64 << 10), file=sys.stderr, flush=True)

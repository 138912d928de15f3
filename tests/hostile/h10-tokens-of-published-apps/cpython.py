import http.server
import json
import os
import threading
import time
import urllib.request

PROGRAM = '''
const { HYPHA_TOKEN = "none", HYPHA_WORKSPACE = "none" } = Deno.env.toObject();
Deno.serve(() => new Response(`token ${HYPHA_TOKEN}, workspace ${HYPHA_WORKSPACE}`));
'''
DOCUMENT = {
  'id': 'agents/evil', 'type': 'deno-app', 'parent_id': 'agents/apps', 'versions': [{'version': 'v0'}],
  'manifest': {'id': 'evil', 'name': 'evil', 'lang': 'typescript', 'startup_script': PROGRAM},
}
asked = []


class Hypha(http.server.BaseHTTPRequestHandler):
  """Publishes one app, and makes a token for whoever asks."""

  def answer(self):
    self.rfile.read(int(self.headers.get('content-length') or 0))
    path = self.path.split('?')[0]
    if path.endswith('/generate_token'):
      asked.append(path)
      body = 'a-token-for-everything'
    elif path.endswith('/children'):
      body = {'items': [DOCUMENT], 'total': 1}
    else:
      body = DOCUMENT
    body = json.dumps(body).encode()
    self.send_response(200)
    self.send_header('content-type', 'application/json')
    self.send_header('content-length', str(len(body)))
    self.end_headers()
    self.wfile.write(body)

  do_GET = do_POST = answer

  def log_message(self, *_):
    pass


hypha = http.server.ThreadingHTTPServer(('127.0.0.1', 47913), Hypha)
threading.Thread(target=hypha.serve_forever, daemon=True).start()


def ask(path, method='GET'):
  request = urllib.request.Request(os.environ['ENGINE'] + path, method=method)
  with urllib.request.urlopen(request, timeout=10) as response:
    return response.read().decode()


ask('/api/apps/update', 'POST')
end = time.time() + 30
said = 'the app was never ready'
while time.time() < end:
  try:
    said = ask('/apps/evil/')
    break
  except OSError as error:
    said = f'the app was never ready: {error}'
    time.sleep(0.1)
hypha.shutdown()
print('held: the app has no token' if said == 'token none, workspace none' else f'ESCAPED: {said}')
print('held: none was asked for' if not asked else f'ESCAPED: {asked}')

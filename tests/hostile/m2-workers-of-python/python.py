from js import Function

real = Function.new('return (function () { return this })()')()
names = ['Worker', 'SharedWorker', 'navigator', 'caches', 'localStorage', 'sessionStorage', 'BroadcastChannel', 'Deno',
         'process', 'Buffer', 'global', 'require', 'GPU', 'prompt', 'alert', 'close', 'postMessage', 'onmessage']
for name in names:
  found = Function.new(f'return typeof {name}')()
  print(f'held: {name}' if found == 'undefined' else f'ESCAPED: {name} is a {found}')

source = 'self.Deno && console.log("ESCAPED: in a worker")'
attempts = {
  'a worker': f'new Worker("data:text/javascript,{source}", {{ type: "module" }})',
  'a worker of a blob': f'new Worker(URL.createObjectURL(new Blob([{source!r}])), {{ type: "module" }})',
  'node:worker_threads': 'import("node:worker_threads").then((it) => new it.Worker("1", { eval: true }))',
}
for what, code in attempts.items():
  try:
    made = await Function.new('return (async () => { ' + f'return await ({code})' + ' })()')()
    print(f'ESCAPED: {what}: {made}')
  except Exception as error:
    print(f'held: {what}')

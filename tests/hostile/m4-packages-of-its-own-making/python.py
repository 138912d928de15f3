from js import Function

Function.new('''
  const bytes = new TextEncoder().encode("forged");
  Object.defineProperty(Response.prototype, "ok", { get: () => true });
  Response.prototype.arrayBuffer = async () => bytes.buffer;
  Response.prototype.bytes = async () => bytes;
  globalThis.fetch = async () => new Response(bytes);
''')()
import pyodide_js

silent = Function.new('')

for name in ('numpy', '../../evil', '/etc/passwd'):
  try:
    await pyodide_js.loadPackage(name, messageCallback=silent, errorCallback=silent)
    import importlib
    importlib.import_module('numpy')
    print(f'ESCAPED: {name} was loaded')
  except BaseException as error:
    print(f'held: {name}')

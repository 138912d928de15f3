import os
from js import Function

Function.new('''
  const real = (function () { return this })();
  real.taken = [];
  for (const name of ["Deno", "process", "__bootstrap"]) {
    Object.defineProperty(real, name, { set(value) { real.taken.push(name) }, configurable: true });
  }
  // What a mount is looked at with.
  for (const type of [Object, Function, Array, Uint32Array, Reflect.getPrototypeOf(Uint8Array)]) {
    Object.defineProperty(type.prototype, "build", { get() { real.taken.push("build of " + type.name) }, configurable: true });
  }
''')()
os.stat('/mnt/data/a.txt')
os.listdir('/mnt/data')
with open('/mnt/data/a.txt', 'r+') as file:
  file.seek(0, os.SEEK_END)
  os.fstat(file.fileno())
  print('seen: size', file.tell())
os.utime('/mnt/data/a.txt')
taken = Function.new('return taken.join()')()
print(f'ESCAPED: {taken}' if taken else 'held: nothing was taken')
names = ['Deno', 'process', '__bootstrap', 'Deno[Deno.internal]', 'Symbol.for("Deno.internal") in globalThis && 1']
for name in names:
  found = Function.new(f'try {{ return typeof ({name}) }} catch {{ return "undefined" }}')()
  print(('held: ' if found in ('undefined', 'boolean') else 'ESCAPED: ') + name)

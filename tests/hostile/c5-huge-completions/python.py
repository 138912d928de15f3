print('tried: completions')
class Huge: pass
huge = Huge()
for n in range(100): huge.__dict__['x' * (1 << 20) + str(n)] = n
many = Huge()
for n in range(1_000_000): many.__dict__['name' + str(n)] = n

import os

point = os.environ['POINT']
print('seen:', open(f'{point}/hello.txt').read())
with open(f'{point}/made.txt', 'w') as file:
    _ = file.write('made')
print('seen:', open(f'{point}/made.txt').read())

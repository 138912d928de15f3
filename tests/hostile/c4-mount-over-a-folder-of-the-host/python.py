import os

point = os.environ['POINT']


def attempt(what, escapes):
    try:
        got = escapes()
    except Exception:
        got = None
    print(f'ESCAPED: {what} {got}' if got else f'held: {what}')


def told(name):
    text = open(f'{point}/{name}').read()
    return text if 'secret' in text else None


def database():
    import sqlite3

    sqlite3.connect(f'{point}/planted.db').execute('create table t(x)')


attempt('files that only the host has', lambda: told('only-here.txt'))
attempt('files that both have', lambda: told('hello.txt'))
attempt('its names', lambda: 'only-here.txt' in os.listdir(point))
attempt('a database', database)
print('seen:', open(f'{point}/hello.txt').read())

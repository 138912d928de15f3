print('tried: huge-error')
raise type("n" * (32 << 20), (Exception,), {})("m" * (32 << 20))

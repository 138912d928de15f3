mod misbehaving;
mod real;

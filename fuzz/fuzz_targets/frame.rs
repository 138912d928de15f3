//! Frames of a kernel process that has been taken over, read by the server, and the other way round.

#![no_main]

use kernel_protocol::Reply;
use kernel_protocol::Request;
use kernel_protocol::decode;
use kernel_protocol::encode;
use kernel_protocol::read_frame;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
  if let Ok(reply) = decode::<Reply>(bytes) {
    let frame = encode(&reply);
    let again: Reply = decode(&frame[4..]).expect("what was decoded is a message");
    assert_eq!(encode(&again), frame);
  }
  let mut rest = bytes;
  while let Ok(Some(_)) = read_frame::<Request>(&mut rest) {}
});

// The token comes by standard input before the tests, and goes out on file descriptor 3 after the last of them.
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;

pub fn take() -> [u8; 64] {
    let mut token = [0u8; 64];
    let mut input = unsafe { File::from_raw_fd(0) };
    input.read_exact(&mut token).expect("no token");
    token
}

pub fn give(token: [u8; 64]) {
    let mut verdict = unsafe { File::from_raw_fd(3) };
    verdict.write_all(&token).expect("no verdict");
}

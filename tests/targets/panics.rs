// SPDX-License-Identifier: MIT
//! Panics that pass through probed functions (protocol: victim.h).

use std::io::{Read, Write};
use std::os::unix::io::FromRawFd;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

pub trait Animal {
    fn speak(&self, how: i64) -> i64;
}

struct Dog;

impl Animal for Dog {
    #[inline(never)]
    fn speak(&self, how: i64) -> i64 {
        if how % 3 == 0 {
            resume_unwind(Box::new(how));
        }
        how * 2
    }
}

/// A virtual call in tail position.
#[no_mangle]
#[inline(never)]
pub fn probed_tail(whose: &dyn Animal, how: i64) -> i64 {
    whose.speak(how)
}

#[no_mangle]
#[inline(never)]
pub fn probed_cleaning(whose: &dyn Animal, how: i64) -> i64 {
    let text = how.to_string();
    probed_tail(whose, how) + text.len() as i64 - text.len() as i64
}

#[no_mangle]
#[inline(never)]
pub fn probed_catching(whose: &'static (dyn Animal + Sync), how: i64) -> i64 {
    match catch_unwind(AssertUnwindSafe(|| probed_cleaning(whose, how))) {
        Ok(result) => result,
        Err(what) => -*what.downcast::<i64>().unwrap(),
    }
}

static DOG: Dog = Dog;

/// Which animal it is, not known when this is compiled.
#[inline(never)]
fn animal() -> &'static (dyn Animal + Sync) {
    let dog: &'static (dyn Animal + Sync) = &DOG;
    unsafe { std::ptr::read_volatile(&dog) }
}

fn work(counts: &mut (i64, i64)) {
    for how in 1..=30 {
        let thrown = how % 3 == 0;
        let expected = if thrown { -how } else { 2 * how };
        counts.0 += 3;
        counts.1 += if thrown { 1 } else { 3 };
        assert_eq!(probed_catching(animal(), how), expected);
    }
}

extern "C" {
    fn poll(fds: *mut [i32; 2], nr: u64, timeout: i32) -> i32;
}

fn has_input() -> bool {
    let mut input = [0, 1]; // descriptor 0, POLLIN
    unsafe { poll(&mut input, 1, 0) == 1 }
}

fn main() {
    // Unbuffered, so that poll() sees what has not been read.
    let mut input = unsafe { std::fs::File::from_raw_fd(0) };
    let mut read_line = || {
        let mut line = Vec::new();
        let mut byte = [0u8];
        while input.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        (byte[0] == b'\n').then(|| String::from_utf8(line).unwrap())
    };
    println!("ready");
    while let Some(line) = read_line() {
        let mut counts = (0, 0);
        match line.parse().unwrap() {
            0 => {
                while !has_input() {
                    work(&mut counts);
                }
                read_line();
            }
            rounds => (0..rounds).for_each(|_| work(&mut counts)),
        }
        println!("{} {}", counts.0, counts.1);
        std::io::stdout().flush().unwrap();
    }
}

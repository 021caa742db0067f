//! The calls of the C library by which time, chance and durability come into a process, in place of the library's own.
//!
//! Everything that is linked into this program ends up here: the standard library, the runtime, raft. So there is no need
//! for a seam wherever a hash map is made or the time is looked at. The one module with `unsafe` code: the signatures are
//! C's.
#![allow(unsafe_code, reason = "functions that replace those of the C library have its signatures")]

use std::os::raw::{c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use crate::disk;
use crate::random::mix;

/// Begins with the seed, and moves with each number.
static CHANCE: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds since the beginning of the simulation and some; 0 before it.
static NOW: AtomicU64 = AtomicU64::new(0);
/// By how many milliseconds the clock of who runs is wrong.
static WRONG_BY: AtomicI64 = AtomicI64::new(0);

/// Where the monotonic clock begins, in seconds.
const BOOTED: u64 = 1_000_000;
/// Where the clock of the day begins, in seconds since 1970.
const BEGAN: u64 = 1_760_000_000;

/// Makes chance follow from a seed.
pub fn seed(seed: u64) {
    CHANCE.store(mix(seed ^ 0x5eed), Ordering::Relaxed);
}

/// Sets the clocks.
pub fn set_time(now_ms: u64) {
    NOW.store((now_ms + 1) * 1_000_000, Ordering::Relaxed);
}

/// Sets by how much the clock of the day is wrong for what runs now.
pub fn set_wrong_by(millis: i64) {
    WRONG_BY.store(millis, Ordering::Relaxed);
}

/// # Safety
/// As getrandom(2): `buffer` has room for `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
    // SAFETY: the caller says that there is room.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for piece in buffer.chunks_mut(8) {
        let number = mix(CHANCE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed));
        piece.copy_from_slice(&number.to_le_bytes()[..piece.len()]);
    }
    length as isize
}

/// # Safety
/// As clock_gettime(2): `time` may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    let nanos = NOW.load(Ordering::Relaxed);
    let is_process = clock == libc::CLOCK_PROCESS_CPUTIME_ID || clock == libc::CLOCK_THREAD_CPUTIME_ID;
    if nanos == 0 || is_process {
        // SAFETY: the call is passed on as it came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let is_of_day = matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE);
    let nanos = match is_of_day {
        true => {
            let wrong = WRONG_BY.load(Ordering::Relaxed).saturating_mul(1_000_000);
            (BEGAN * 1_000_000_000 + nanos).saturating_add_signed(wrong)
        }
        false => BOOTED * 1_000_000_000 + nanos,
    };
    // SAFETY: the caller says that it may be written to.
    unsafe {
        (*time).tv_sec = (nanos / 1_000_000_000) as libc::time_t;
        (*time).tv_nsec = (nanos % 1_000_000_000) as _;
    }
    0
}

/// Notes that all of a file is durable now.
#[unsafe(no_mangle)]
pub extern "C" fn fsync(file: c_int) -> c_int {
    disk::synced(file);
    0
}

/// As [`fsync`].
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(file: c_int) -> c_int {
    fsync(file)
}

/// Cuts a file, and notes that no more of it is durable.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(file: c_int, length: i64) -> c_int {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::syscall(libc::SYS_ftruncate, file, length) } as c_int;
    if result == 0 {
        disk::cut(file, length.max(0) as u64);
    }
    result
}

/// Where the C library's own function is, once it was looked for.
static PASSED_ON: AtomicUsize = AtomicUsize::new(0);

type Syscall = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

/// Answers getrandom(2) by its number, as some libraries ask for it, and passes on all else.
///
/// # Safety
/// As syscall(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    one: c_long,
    two: c_long,
    three: c_long,
    four: c_long,
    five: c_long,
    six: c_long,
) -> c_long {
    if number == libc::SYS_getrandom {
        // SAFETY: the arguments are those of getrandom(2).
        return unsafe { getrandom(one as *mut c_void, two as usize, three as c_uint) } as c_long;
    }
    let mut found = PASSED_ON.load(Ordering::Relaxed);
    if found == 0 {
        // SAFETY: the name ends with a zero.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"syscall".as_ptr()) } as usize;
        PASSED_ON.store(found, Ordering::Relaxed);
    }
    assert_ne!(found, 0, "the C library has this function");
    // SAFETY: this is the address of the C library's function; what it does not need of the arguments it does not read.
    let passed_on = unsafe { std::mem::transmute::<usize, Syscall>(found) };
    // SAFETY: the call is passed on as it came.
    unsafe { passed_on(number, one, two, three, four, five, six) }
}

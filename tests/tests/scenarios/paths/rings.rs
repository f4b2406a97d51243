//! Calls that io_uring does.

use super::*;

/// Runs one operation on a ring and returns its result.
fn by_ring(ring: &mut io_uring::IoUring, operation: &io_uring::squeue::Entry) -> i32 {
    // SAFETY: the caller's buffer lives until the result is there.
    unsafe { ring.submission().push(operation) }.unwrap();
    ring.submit_and_wait(1).unwrap();
    let result = ring.completion().next().unwrap().result();
    assert!(result >= 0, "{}", std::io::Error::from_raw_os_error(-result));
    result
}

/// Sends and receives through rings, which the kernel polls by a thread of its own or not.
fn rings(make: impl Fn() -> std::io::Result<io_uring::IoUring> + Copy) {
    use io_uring::{opcode, types::Fd};
    if make().is_err() {
        return skip("no io_uring");
    }
    let take = move |stream: TcpStream| {
        let (mut ring, mut buffer) = (make().unwrap(), vec![0; 1 << 14]);
        let mut received = 0;
        loop {
            let length = u32::try_from(buffer.len()).unwrap();
            let operation = opcode::Recv::new(Fd(stream.as_raw_fd()), buffer.as_mut_ptr(), length).build();
            match by_ring(&mut ring, &operation) {
                0 => return Moved { sent: 0, received },
                n => received += u64::from(n.cast_unsigned()),
            }
        }
    };
    tcp_pair(take, move |stream| {
        let mut ring = make().unwrap();
        let data = vec![9; 3000];
        let send = opcode::Send::new(Fd(stream.as_raw_fd()), data.as_ptr(), 3000).build();
        let sent = (0..40).map(|_| u64::from(by_ring(&mut ring, &send).cast_unsigned())).sum();
        Moved { sent, received: 0 }
    });
}

#[test]
fn a_ring_sends_and_receives_for_its_process() {
    rings(|| io_uring::IoUring::new(8));
}

#[test]
fn a_polled_ring_sends_and_receives_for_its_process() {
    rings(|| io_uring::IoUring::builder().setup_sqpoll(100).build(8));
}

//! What a blocking call allocates once it has been made before.

use notnets::blocking::{Call, Endpoint, Response, Server};

const CALLS: u64 = 1_000;
/// Queues of blocks grow to what they need when the peer is late, which it may be at any time.
const GROWTH: u64 = 20;

#[test]
fn a_call_allocates_no_more_than_what_its_payload_is_copied_into() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::builder().directory(directory.path()).bind("notnets:///test").unwrap();
    let stopper = server.stopper();
    let serving = std::thread::spawn(move || {
        server.serve(|request, reply| {
            reply.message.extend_from_slice(request.message);
            Ok(())
        });
    });
    let mut client = Endpoint::new("notnets:///test").unwrap().directory(directory.path()).connect().unwrap();
    let mut response = Response::default();
    let mut make = |calls, message: &[u8]| {
        for _ in 0..calls {
            client.call_into(&Call::new("/test.Test/Echo", message), &mut response).unwrap();
            assert_eq!(response.message, message);
        }
    };
    // What fits into a descriptor is copied into the response's own memory.
    for (message, each) in [(&[7; 32][..], 0), (&[7; 1000], 1)] {
        make(100, message);
        let counted = allocation_counter::measure(|| make(CALLS, message)).count_total;
        assert!(counted <= each * CALLS + GROWTH, "{counted} allocations for {CALLS} calls");
    }
    stopper.stop();
    serving.join().unwrap();
}

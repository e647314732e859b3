//! HTTP/2 frame by frame, for what no well-behaved library does.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::ANY;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RESET: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

/// On data and headers: the last of their stream.
pub const END_STREAM: u8 = 1;
/// On headers: no continuation follows.
pub const END_HEADERS: u8 = 4;
pub const REFUSED_STREAM: u32 = 7;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn new(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        Self { kind, flags, stream, payload: payload.to_vec() }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("short");
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }
}

/// A server that does as each test says.
pub struct Server {
    listener: TcpListener,
    pub address: String,
}

impl Server {
    pub async fn new() -> Self {
        let listener = TcpListener::bind(ANY).await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        Self { listener, address }
    }

    /// The next connection, before anything is said on it.
    pub async fn silent(&self) -> TcpStream {
        self.listener.accept().await.expect("a connection").0
    }

    /// The next connection, after both have said that they speak HTTP/2.
    pub async fn accept(&self) -> Connection {
        let mut stream = self.silent().await;
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await.expect("a preface");
        assert_eq!(preface, PREFACE);
        let mut connection = Connection(stream);
        connection.send(Frame::new(SETTINGS, 0, 0, &[])).await;
        connection
    }
}

pub struct Connection(pub TcpStream);

impl Connection {
    /// A client's, after its preface.
    pub async fn connect(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.expect("a server");
        stream.write_all(PREFACE).await.expect("open");
        let mut connection = Self(stream);
        connection.send(Frame::new(SETTINGS, 0, 0, &[])).await;
        connection
    }

    pub async fn send(&mut self, frame: Frame) {
        // That the other end has had enough is for the test to see elsewhere.
        let _ = self.0.write_all(&frame.bytes()).await;
    }

    /// The next frame; `None` at the connection's end.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame of a stream.
    pub async fn next_of(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection goes on");
            if frame.stream == stream {
                return frame;
            }
        }
    }
}

/// The headers of a call, as a block without a table: literals that are not indexed.
pub fn call(path: &str, authority: &str) -> Vec<u8> {
    // `:method POST`, `:scheme http`.
    let mut block = vec![0x83, 0x86];
    let fields = [
        (":path", path),
        (":authority", authority),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A message with its prefix.
pub fn message(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&[0][..], &length.to_be_bytes(), bytes].concat()
}

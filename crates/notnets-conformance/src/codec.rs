//! A codec whose encoder refuses a certain message, for the cases in which
//! encoding fails.

use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use crate::pb::Chunk;

/// The index of a chunk that [`ChunkCodec`] cannot encode.
pub const UNENCODABLE: u64 = u64::MAX;

/// What the encoder says about such a chunk.
pub const REFUSED: &str = "this chunk cannot be encoded";

/// Encodes and decodes chunks like tonic's own codec, but for those with the
/// index [`UNENCODABLE`].
#[derive(Clone, Copy, Debug, Default)]
pub struct ChunkCodec;

impl Codec for ChunkCodec {
    type Encode = Chunk;
    type Decode = Chunk;
    type Encoder = ChunkEncoder;
    type Decoder = ProstDecoder<Chunk>;

    fn encoder(&mut self) -> Self::Encoder {
        ChunkEncoder(ProstCodec::<Chunk, Chunk>::default().encoder())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<Chunk, Chunk>::default().decoder()
    }
}

/// The encoder of [`ChunkCodec`].
pub struct ChunkEncoder(ProstEncoder<Chunk>);

impl Encoder for ChunkEncoder {
    type Item = Chunk;
    type Error = Status;

    fn encode(&mut self, item: Chunk, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if item.index == UNENCODABLE {
            return Err(Status::data_loss(REFUSED));
        }
        self.0.encode(item, buffer)
    }
}

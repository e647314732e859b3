//! What is asked of a model, as blocks of tokens, and the KV cache that belongs to each.

use notnets_cli_common::random::Random;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// The name of a block: it stands for all tokens from the prompt's first to the block's last.
pub type Hash = [u8; SHA256_OUTPUT_LEN];

const TOKENS: usize = 256;
/// Blocks that all prompts begin with, that the prompts about one document have next, and of the question.
const SYSTEM: u64 = 2;
const DOCUMENT: u64 = 6;
const QUESTION: u64 = 2;

/// Returns the hashes of a prompt's blocks: instructions that are always the same, one of some documents, of
/// which the first are asked about most, and a question of its own.
pub fn prompt(stream: u64, request: u64, documents: u64) -> Vec<Hash> {
    let mut random = Random::new(stream << 32 | request);
    // Half of the draws are below half of those before.
    let document = (0..2).fold(documents, |below, _| random.below(below.max(1)) + 1) - 1;
    let system = (0..SYSTEM).map(|nth| (0, nth));
    let document = (0..DOCUMENT).map(|nth| (1 + document, nth));
    let question = (0..QUESTION).map(|nth| (u64::MAX - (stream << 32 | request), nth));
    let mut parent = Hash::default();
    let chained = system.chain(document).chain(question).map(|(text, nth)| {
        parent = chain(&parent, &tokens(text, nth));
        parent
    });
    chained.collect()
}

/// A block's hash follows from its parent's and its own tokens. It is a cryptographic one: who finds two
/// prompts with one hash can read, or replace, what belongs to another's.
fn chain(parent: &Hash, tokens: &[u32; TOKENS]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(parent);
    for token in tokens {
        context.update(&token.to_le_bytes());
    }
    let mut hash = Hash::default();
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn tokens(text: u64, block: u64) -> [u32; TOKENS] {
    let mut random = Random::new(text.rotate_left(16) ^ block);
    [(); TOKENS].map(|()| random.bits() as u32 % 128_256)
}

/// Stands for the forward pass of a model: fills a block with what belongs to its tokens. It begins with the
/// block's hash.
pub fn compute(hash: &Hash, block: &mut [u8]) {
    let mut random = Random::new(u64::from_le_bytes(*hash.first_chunk().expect("a hash has eight bytes")));
    for word in block.chunks_mut(8) {
        word.copy_from_slice(&random.bits().to_le_bytes()[..word.len()]);
    }
    let len = block.len().min(hash.len());
    block[..len].copy_from_slice(&hash[..len]);
}

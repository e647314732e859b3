//! A client of a store, over any transport.

use std::time::{Duration, Instant};

use bytes::Bytes;
use crc32c::crc32c;
use notnets::SharedBytes;
use notnets_examples::Result;
use notnets_examples::kv_cache::kv_cache_client::KvCacheClient;
use notnets_examples::kv_cache::{AnnounceRequest, GetRequest, LookupReply, LookupRequest, PutRequest, Run};

use crate::prompt::{Hash, compute};
use crate::report::{Operation, Report};
use crate::transport::{Channel, MAX_MESSAGE, PAGE};

/// Blocks of more bytes are put in several pieces of memory. Each has to fit into an extent of the region.
const SLAB: usize = 8 << 20;
/// How often it is looked whether blocks would go by reference: at first at once again, then after a while.
const LOOKS: usize = 30;
const AT_ONCE: usize = 10;
const WHILE: Duration = Duration::from_millis(1);

/// A client, and what it has measured.
pub struct Client<T> {
    calls: KvCacheClient<T>,
    block: usize,
    /// Blocks are to go by reference.
    shares: bool,
    pub report: Report,
}

impl<T: Channel> Client<T> {
    /// A client that knows blocks of so many bytes.
    pub fn new(channel: T, block: usize, shares: bool) -> Self {
        let calls = KvCacheClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
        let calls = calls.max_encoding_message_size(MAX_MESSAGE);
        Self { calls, block, shares, report: Report::default() }
    }

    /// What is done before a model's first token: gets the blocks of a prompt that are there, computes the
    /// others, and puts them.
    pub async fn prefill(&mut self, prompt: &[Hash]) -> Result {
        let found = self.get(prompt).await?;
        self.report.looked_up += prompt.len();
        self.report.found += found;
        for hashes in prompt[found..].chunks((SLAB / self.block).max(1)) {
            self.put(hashes).await?;
        }
        Ok(())
    }

    /// What is done where the model goes on: gets the blocks of a prompt that was prefilled elsewhere.
    pub async fn decode(&mut self, prompt: &[Hash]) -> Result {
        let found = self.get(prompt).await?;
        self.report.evicted += prompt.len() - found;
        Ok(())
    }

    /// Computes blocks, and puts them.
    async fn put(&mut self, hashes: &[Hash]) -> Result {
        let fill = |bytes: &mut [u8]| {
            hashes.iter().zip(bytes.chunks_mut(self.block)).for_each(|(hash, block)| compute(hash, block));
        };
        let bytes = hashes.len() * self.block;
        let data: Bytes = if self.shares {
            SharedBytes::build(bytes, fill)?.into()
        } else {
            let mut private = vec![0; bytes];
            fill(&mut private);
            private.into()
        };
        let checksums = data.chunks(self.block).map(crc32c).collect();

        let begin = Instant::now();
        if self.shares && data.len() > PAGE {
            self.announce(data.slice(..PAGE)).await?;
        }
        let request = PutRequest { hashes: names(hashes), run: Some(Run { checksums, data }) };
        let in_place = self.calls.put(request).await?.into_inner().in_place;
        self.report.puts.push(Operation::since(begin, bytes, if in_place { bytes } else { 0 }));
        Ok(())
    }

    /// In a pod, bytes that are shared go as a copy the first time, beside which the peer is told where they
    /// are. So a page of them goes first.
    async fn announce(&mut self, page: Bytes) -> Result {
        for look in 0..LOOKS {
            let request = AnnounceRequest { page: page.clone() };
            if self.calls.announce(request).await?.into_inner().in_place {
                break;
            }
            pause(look).await;
        }
        Ok(())
    }

    /// Gets the blocks that are there, from the first on, and checks them. Returns how many they are.
    async fn get(&mut self, prompt: &[Hash]) -> Result<usize> {
        let begin = Instant::now();
        let found = self.look_up(prompt).await?;
        if found == 0 {
            return Ok(0);
        }
        let request = GetRequest { hashes: names(&prompt[..found]) };
        let runs = self.calls.get(request).await?.into_inner().runs;
        let of = |runs: &mut dyn Iterator<Item = &Run>| runs.map(|run| run.data.len()).sum::<usize>();
        let in_place = of(&mut runs.iter().filter(|run| SharedBytes::holds(&run.data)));
        self.report.gets.push(Operation::since(begin, of(&mut runs.iter()), in_place));

        let begin = Instant::now();
        let got = self.check(prompt, &runs)?;
        self.report.reads.push(Operation::since(begin, of(&mut runs.iter()), in_place));
        Ok(got)
    }

    /// How many blocks of a prompt are there. Where they are to be read in place, their memory is made known
    /// to this process, page by page.
    async fn look_up(&mut self, prompt: &[Hash]) -> Result<usize> {
        let mut look = 0;
        loop {
            let request = LookupRequest { hashes: names(prompt), pages: self.shares };
            let LookupReply { found, pages } = self.calls.lookup(request).await?.into_inner();
            look += 1;
            if look == LOOKS || pages.iter().all(|page| SharedBytes::holds(page)) {
                return Ok(prompt.len().min(found as usize));
            }
            pause(look).await;
        }
    }

    /// Reads all bytes. They have to be those that were put, under the name that they were asked for by.
    fn check(&self, prompt: &[Hash], runs: &[Run]) -> Result<usize> {
        let blocks = runs.iter().flat_map(|run| run.checksums.iter().zip(run.data.chunks(self.block)));
        let mut count = 0;
        for ((checksum, block), hash) in blocks.zip(prompt) {
            if crc32c(block) != *checksum || !block.starts_with(hash) {
                return Err(format!("block {count} of a prompt is not what was put").into());
            }
            count += 1;
        }
        Ok(count)
    }
}

async fn pause(look: usize) {
    if look > AT_ONCE {
        tokio::time::sleep(WHILE).await;
    }
}

fn names(hashes: &[Hash]) -> Vec<Bytes> {
    hashes.iter().map(|hash| Bytes::copy_from_slice(hash)).collect()
}

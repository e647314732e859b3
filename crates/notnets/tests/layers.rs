//! Each layer of this crate knows only those beneath it (docs/architecture.md, Layers).

use std::path::{Path, PathBuf};

/// A layer: where it is, and what its code doesn't name.
struct Layer {
    files: &'static [&'static str],
    except: &'static [&'static str],
    unknown: &'static [&'static str],
}

/// From the lowest to the highest. The highest, `server/` and `client/channel.rs`, may name all.
const LAYERS: &[Layer] = &[
    Layer {
        files: &[
            "link",
            "service_config",
            "options.rs",
            "message_prefix.rs",
            "status_message.rs",
            "async_fd.rs",
            "peer.rs",
            "observe",
        ],
        except: &[],
        unknown: &[
            "tonic",
            "tower",
            "http::",
            "crate::client",
            "crate::rpc",
            "crate::server",
            "crate::Channel",
        ],
    },
    Layer {
        files: &["client"],
        // Methods with tonic's names; modules are declared beside them.
        except: &["client/channel.rs", "client/tonic_names.rs", "client/mod.rs"],
        unknown: &["tonic", "tower", "crate::http", "crate::rpc", "crate::server"],
    },
    Layer {
        files: &["names"],
        except: &[],
        unknown: &["tonic", "tower", "http::", "crate::rpc", "crate::server"],
    },
    Layer {
        files: &["rpc"],
        except: &[],
        unknown: &["tonic", "tower", "http::", "crate::server", "crate::stub"],
    },
    Layer { files: &["http"], except: &[], unknown: &["crate::server", "crate::stub"] },
    Layer { files: &["stub"], except: &[], unknown: &["crate::server"] },
    // Beside all of these.
    Layer {
        files: &["blocking"],
        except: &[],
        unknown: &[
            "tokio",
            "tonic",
            "tower",
            "http::",
            "crate::link",
            "crate::client",
            "crate::rpc",
            "crate::server",
            "crate::Channel",
        ],
    },
];

#[test]
fn each_layer_knows_only_those_beneath_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for layer in LAYERS {
        let except: Vec<_> = layer.except.iter().map(|file| source.join(file)).collect();
        assert!(except.iter().all(|file| file.exists()), "{except:?}");
        let mut seen = 0;
        for path in layer.files.iter().flat_map(|file| files_at(&source.join(file))) {
            if except.contains(&path) {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let (code, _tests) = text.split_once("#[cfg(test)]").unwrap_or((&text, ""));
            for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
                let named = layer.unknown.iter().find(|name| line.contains(**name));
                assert_eq!(named, None, "{}: {line}", path.display());
            }
            seen += 1;
        }
        assert!(seen > 0, "{:?}", layer.files);
    }
}

/// The file, or all that are in the folder.
fn files_at(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.flat_map(|entry| files_at(&entry.unwrap().path())).collect()
}

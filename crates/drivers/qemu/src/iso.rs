//! Small ISO 9660 file systems, for config drives. Names are kept as they are (guests look for `meta_data.json`), so every
//! file system has a second tree with Joliet's longer names, as Nova's has. Refused: a crate, since none of those that
//! write ISO 9660 is widely used; mkisofs, which would be one more program to install for some twenty small files.
//!
//! Files with the same bytes lie on the image once.

use std::collections::{BTreeMap, HashMap};

const SECTOR: usize = 2048;
/// Where descriptors begin; what is before is for boot loaders.
const FIRST: usize = 16;
/// Nothing, at the end, as mkisofs has it: who looks for a label reads on behind it (busybox 68 KiB from the start).
const PADDING: usize = 150;

/// A directory; those inside are named by their place in the list of all.
#[derive(Default)]
struct Dir {
    name: String,
    parent: usize,
    dirs: BTreeMap<String, usize>,
    files: BTreeMap<String, Extent>,
}

/// Where a file or directory lies: its first sector, and its bytes.
#[derive(Clone, Copy, Default)]
struct Extent {
    sector: usize,
    length: usize,
}

/// One of the two trees over the same files.
#[derive(Clone, Copy, PartialEq)]
enum Tree {
    Plain,
    Joliet,
}

/// A file system with this label and these files by path (`a/b`).
pub fn image(label: &str, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut dirs = vec![Dir::default()];
    for path in files.keys() {
        let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
        folders.split('/').filter(|name| !name.is_empty()).fold(0, |parent, name| enter(&mut dirs, parent, name));
    }
    let dirs = &mut by_depth(dirs);
    // Two descriptors and their end; of each tree the path table in both byte orders, and the directories.
    let mut next = FIRST + 3;
    let trees = [Tree::Plain, Tree::Joliet].map(|tree| {
        let tables = next;
        let table = path_table(tree, dirs, &vec![Extent::default(); dirs.len()], false).len();
        next += 2 * sectors(table);
        let places: Vec<Extent> = (0..dirs.len())
            .map(|at| {
                // A directory's length does not depend on where anything is.
                let length = listing(tree, dirs, at, &vec![Extent::default(); dirs.len()], files).len();
                let place = Extent { sector: next, length };
                next += sectors(length);
                place
            })
            .collect();
        (tree, tables, places)
    });
    let data = place_files(dirs, files, &mut next);
    next += PADDING;

    let mut out = vec![0; next * SECTOR];
    let mut put = |sector: usize, bytes: &[u8]| out[sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    for (i, (tree, tables, places)) in trees.iter().enumerate() {
        let table = path_table(*tree, dirs, places, false);
        put(FIRST + i, &descriptor(*tree, label, next, *tables, table.len(), places[0]));
        put(*tables, &table);
        put(tables + sectors(table.len()), &path_table(*tree, dirs, places, true));
        for (at, place) in places.iter().enumerate() {
            put(place.sector, &listing(*tree, dirs, at, places, files));
        }
    }
    put(FIRST + 2, b"\xffCD001\x01");
    for (sector, bytes) in data {
        put(sector, bytes);
    }
    out
}

fn sectors(length: usize) -> usize {
    length.div_ceil(SECTOR)
}

/// The directory of this name in another, made if it is not there.
fn enter(dirs: &mut Vec<Dir>, parent: usize, name: &str) -> usize {
    if let Some(at) = dirs[parent].dirs.get(name) {
        return *at;
    }
    let at = dirs.len();
    dirs.push(Dir { name: name.to_owned(), parent, ..Dir::default() });
    dirs[parent].dirs.insert(name.to_owned(), at);
    at
}

/// In the order of path tables: by depth, then by parent, then by name.
fn by_depth(mut old: Vec<Dir>) -> Vec<Dir> {
    let (mut order, mut at) = (vec![0], 0);
    while at < order.len() {
        order.extend(old[order[at]].dirs.values().copied());
        at += 1;
    }
    let place = |was: usize| order.iter().position(|o| *o == was).unwrap_or_default();
    order
        .iter()
        .map(|was| {
            let mut dir = std::mem::take(&mut old[*was]);
            dir.parent = place(dir.parent);
            dir.dirs.values_mut().for_each(|child| *child = place(*child));
            dir
        })
        .collect()
}

/// Gives every file its place; what is to be written where.
fn place_files<'a>(dirs: &mut [Dir], files: &'a BTreeMap<String, Vec<u8>>, next: &mut usize) -> Vec<(usize, &'a [u8])> {
    let mut known: HashMap<&[u8], usize> = HashMap::new();
    let mut data = Vec::new();
    for (path, bytes) in files {
        let sector = *known.entry(bytes).or_insert_with(|| {
            let sector = *next;
            *next += sectors(bytes.len());
            data.push((sector, bytes.as_slice()));
            sector
        });
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folders = folders.split('/').filter(|name| !name.is_empty());
        let at = folders.fold(0, |at, name| dirs[at].dirs.get(name).copied().unwrap_or_default());
        dirs[at].files.insert(name.to_owned(), Extent { sector, length: bytes.len() });
    }
    data
}

/// A number in both byte orders, as the format has most of them.
fn both32(number: usize) -> [u8; 8] {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    let mut out = [0; 8];
    out[..4].copy_from_slice(&number.to_le_bytes());
    out[4..].copy_from_slice(&number.to_be_bytes());
    out
}

fn both16(number: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (number.to_le_bytes(), number.to_be_bytes());
    [a, b, c, d]
}

/// A name as the tree writes it.
fn encode(tree: Tree, name: &str) -> Vec<u8> {
    match tree {
        Tree::Plain => name.as_bytes().to_vec(),
        Tree::Joliet => name.encode_utf16().flat_map(u16::to_be_bytes).collect(),
    }
}

/// An entry of a directory.
fn record(name: &[u8], place: Extent, is_dir: bool) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(both32(place.sector));
    out.extend(both32(place.length));
    out.extend([100, 1, 1, 0, 0, 0, 0]); // a date that says nothing: the same content gives the same bytes
    out.extend([if is_dir { 2 } else { 0 }, 0, 0]);
    out.extend(both16(1));
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend(name);
    out.resize(out.len().next_multiple_of(2), 0);
    out[0] = u8::try_from(out.len()).unwrap_or(u8::MAX);
    out
}

/// A directory's sectors. Before files have their place, theirs is zero.
fn listing(tree: Tree, dirs: &[Dir], at: usize, places: &[Extent], files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let dir = &dirs[at];
    let mut records = vec![record(&[0], places[at], true), record(&[1], places[dir.parent], true)];
    let mut entries: BTreeMap<Vec<u8>, (Extent, bool)> = BTreeMap::new();
    for (name, child) in &dir.dirs {
        entries.insert(encode(tree, name), (places[*child], true));
    }
    let path = path_of(dirs, at);
    for file in files.keys().filter_map(|file| file.strip_prefix(&path)).filter(|name| !name.contains('/')) {
        // Names have a dot and a version.
        let name = if file.contains('.') { format!("{file};1") } else { format!("{file}.;1") };
        let name = if tree == Tree::Joliet { format!("{file};1") } else { name };
        entries.insert(encode(tree, &name), (dir.files.get(file).copied().unwrap_or_default(), false));
    }
    records.extend(entries.into_iter().map(|(name, (place, is_dir))| record(&name, place, is_dir)));
    let mut out: Vec<u8> = Vec::new();
    for record in records {
        // None goes over the end of a sector.
        if out.len() % SECTOR + record.len() > SECTOR {
            out.resize(out.len().next_multiple_of(SECTOR), 0);
        }
        out.extend(record);
    }
    out.resize(out.len().next_multiple_of(SECTOR), 0);
    out
}

/// The path before the names in a directory: empty, or with a slash at its end.
fn path_of(dirs: &[Dir], at: usize) -> String {
    match at {
        0 => String::new(),
        _ => format!("{}{}/", path_of(dirs, dirs[at].parent), dirs[at].name),
    }
}

fn path_table(tree: Tree, dirs: &[Dir], places: &[Extent], big_endian: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (dir, place) in dirs.iter().zip(places) {
        let name = if dir.name.is_empty() { vec![0] } else { encode(tree, &dir.name) };
        let sector = u32::try_from(place.sector).unwrap_or(u32::MAX);
        let parent = u16::try_from(dir.parent + 1).unwrap_or(u16::MAX);
        out.extend([u8::try_from(name.len()).unwrap_or(u8::MAX), 0]);
        if big_endian {
            out.extend(sector.to_be_bytes());
            out.extend(parent.to_be_bytes());
        } else {
            out.extend(sector.to_le_bytes());
            out.extend(parent.to_le_bytes());
        }
        out.extend(&name);
        out.resize(out.len().next_multiple_of(2), 0);
    }
    out
}

fn descriptor(tree: Tree, label: &str, all: usize, tables: usize, table: usize, root: Extent) -> Vec<u8> {
    let mut out = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    // Texts are filled up with spaces; an odd byte at the end of one in Joliet's letters stays zero.
    let text = |text: &str, length: usize| -> Vec<u8> {
        let mut bytes = encode(tree, text);
        while bytes.len() < length {
            bytes.extend(encode(tree, " "));
        }
        bytes.truncate(length);
        bytes
    };
    put(0, if tree == Tree::Plain { b"\x01CD001\x01" } else { b"\x02CD001\x01" });
    put(8, &text("", 32));
    put(40, &text(label, 32));
    put(80, &both32(all));
    if tree == Tree::Joliet {
        put(88, b"%/E");
    }
    put(120, &both16(1));
    put(124, &both16(1));
    put(128, &both16(2048));
    put(132, &both32(table));
    put(140, &u32::try_from(tables).unwrap_or(u32::MAX).to_le_bytes());
    put(148, &u32::try_from(tables + sectors(table)).unwrap_or(u32::MAX).to_be_bytes());
    put(156, &record(&[0], root, true));
    for (at, length) in [(190, 128), (318, 128), (446, 128), (574, 128), (702, 37), (739, 37), (776, 37)] {
        put(at, &text("", length));
    }
    for at in [813, 830, 847, 864] {
        put(at, b"0000000000000000\0");
    }
    put(881, &[1]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> usize {
        u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize
    }

    /// Every file by path, read as a guest would.
    fn read(image: &[u8], tree: Tree, at: usize, length: usize, path: &str, found: &mut BTreeMap<String, Vec<u8>>) {
        let listing = &image[at * SECTOR..][..length];
        let mut from = 0;
        while from < length {
            let size = usize::from(listing[from]);
            if size == 0 {
                from = (from + 1).next_multiple_of(SECTOR);
                continue;
            }
            let record = &listing[from..from + size];
            from += size;
            assert!(size.is_multiple_of(2));
            let name = &record[33..33 + usize::from(record[32])];
            if name.len() == 1 && name[0] < 2 {
                continue;
            }
            let name = match tree {
                Tree::Plain => String::from_utf8(name.to_vec()).unwrap(),
                Tree::Joliet => {
                    let units: Vec<u16> = name.chunks(2).map(|c| u16::from_be_bytes([c[0], c[1]])).collect();
                    String::from_utf16(&units).unwrap()
                }
            };
            let (sector, length) = (number(&record[2..]), number(&record[10..]));
            if record[25] & 2 != 0 {
                read(image, tree, sector, length, &format!("{path}{name}/"), found);
            } else {
                let name = name.strip_suffix(";1").unwrap().trim_end_matches('.');
                found.insert(format!("{path}{name}"), image[sector * SECTOR..][..length].to_vec());
            }
        }
    }

    #[test]
    fn files_are_found_in_both_trees() {
        let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        files.insert("openstack/latest/meta_data.json".into(), b"{}".to_vec());
        files.insert("openstack/2018-08-27/meta_data.json".into(), b"{}".to_vec());
        files.insert("openstack/latest/user_data".into(), vec![7; 5000]);
        files.insert("ec2/latest/nothing".into(), Vec::new());
        files.insert("top".into(), b"x".to_vec());
        for n in 0..100 {
            files.insert(format!("many/a-long-name-of-number-{n:03}"), vec![n]);
        }
        let image = image("config-2", &files);
        assert_eq!(&image[16 * SECTOR + 40..][..8], b"config-2");
        for (sector, tree) in [(16, Tree::Plain), (17, Tree::Joliet)] {
            let descriptor = &image[sector * SECTOR..][..SECTOR];
            assert_eq!(number(&descriptor[80..]) * SECTOR, image.len());
            let root = &descriptor[156..];
            let mut found = BTreeMap::new();
            read(&image, tree, number(&root[2..]), number(&root[10..]), "", &mut found);
            assert_eq!(found, files);
        }
        files.insert("openstack/latest/vendor_data.json".into(), b"{}".to_vec());
        assert_eq!(super::image("config-2", &files).len(), image.len(), "the same bytes are there once");
    }
}

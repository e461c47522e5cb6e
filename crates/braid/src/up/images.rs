//! The first images: brought in from files that the project's own scripts build, if they are there.
//!
//! A setting marks what was brought in once, so that an image which somebody deleted stays away. Files that are missing
//! or spoilt do not keep a cloud from starting, and come at a later one; whoever starts it is told.

use std::path::{Path, PathBuf};

use blob::{Blobs, Digest};
use face_registry::Registry;
use model::{Change, DEFAULT_DOMAIN, Image, ImageStatus, Index, Project, Setting, Snapshot, Time, Visibility};
use serde_json::json;
use store::Store;

use crate::{Problem, say};

/// What the VM image is called, and the container image too.
const NAME: &str = "tiny";
const VM_MARK: &str = "first-vm-image";
const CONTAINER_MARK: &str = "first-container-image";
/// The root disk is the first virtio disk; the rest is explained with the images themselves.
const COMMAND_LINE: &str = "root=/dev/vda rw console=ttyS0 quiet no_timer_check swiotlb=noforce";
/// MiB in which the VM image boots.
const MIN_RAM: u64 = 80;

/// Brings in what is there and not yet known: the VM image `tiny` with its kernel, and the container image `tiny`.
pub async fn import(store: &Store, blobs: &Blobs, registry: &Registry, images: &Path) -> Result<(), Problem> {
    let snapshot = store.snapshot();
    if !marked(&snapshot, VM_MARK) && !snapshot.all::<Image>().any(|image| image.name.as_deref() == Some(NAME)) {
        vm(store, blobs, images).await?;
    }
    if !marked(&snapshot, CONTAINER_MARK) && !face_registry::is_known(store, NAME, "latest") {
        container(store, registry, images).await?;
    }
    Ok(())
}

fn marked(snapshot: &Snapshot, mark: &str) -> bool {
    snapshot.get::<Setting>(mark).is_some()
}

fn missing(what: &str, images: &Path) {
    say(format_args!(
        "no {what} image {NAME}: there is none in {}; images/build makes it, and the next start brings it in",
        images.display()
    ));
}

async fn vm(store: &Store, blobs: &Blobs, images: &Path) -> Result<(), Problem> {
    // QEMU starts an unpacked kernel sooner.
    let kernels = ["tiny.vmlinux", "tiny.vmlinuz"].map(|name| images.join(name));
    let kernel = kernels.into_iter().find(|file| file.is_file());
    let (ramdisk, disk) = (images.join("tiny.initrd"), images.join("tiny.img"));
    let Some(kernel) = kernel.filter(|_| ramdisk.is_file() && disk.is_file()) else {
        missing("VM", images);
        return Ok(());
    };
    let taken = tokio::try_join!(take(blobs, kernel), take(blobs, ramdisk), take(blobs, disk));
    let (kernel, ramdisk, disk) = match taken {
        Ok(taken) => taken,
        Err(why) => {
            say(format_args!("no VM image {NAME}: {why}"));
            return Ok(());
        }
    };
    let made = store
        .transact(|snapshot| {
            if marked(snapshot, VM_MARK) {
                return Ok((Change::new(), false));
            }
            Ok((rows(snapshot, &kernel, &ramdisk, &disk), true))
        })
        .await?;
    if made {
        tracing::info!("brought in the VM image {NAME}");
    }
    Ok(())
}

/// Copies a file into the blob store, on a thread that may block.
async fn take(blobs: &Blobs, file: PathBuf) -> Result<Digest, String> {
    let blobs = blobs.clone();
    let taken = tokio::task::spawn_blocking(move || blobs.import(&file)).await;
    taken.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

fn rows(snapshot: &Snapshot, kernel: &Digest, ramdisk: &Digest, disk: &Digest) -> Change {
    let admin = snapshot.find::<Project>(Index::Name, &format!("{DEFAULT_DOMAIN}/admin")).next();
    let owner = admin.map(|project| project.id.clone()).unwrap_or_default();
    let now = Time::now();
    let kernel = image(&owner, "tiny-kernel", ("aki", "aki"), kernel, now);
    let ramdisk = image(&owner, "tiny-ramdisk", ("ari", "ari"), ramdisk, now);
    let mut tiny = image(&owner, NAME, ("raw", "bare"), disk, now);
    tiny.virtual_size = tiny.size;
    tiny.min_ram = MIN_RAM;
    let properties =
        [("kernel_id", kernel.id.as_str()), ("ramdisk_id", ramdisk.id.as_str()), ("os_command_line", COMMAND_LINE)];
    tiny.properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mut change = Change::new();
    change.create(Setting { name: VM_MARK.into(), value: json!(tiny.id) });
    change.create(kernel).create(ramdisk).create(tiny);
    change
}

fn image(owner: &str, name: &str, (disk, container): (&str, &str), digest: &Digest, now: Time) -> Image {
    Image {
        name: Some(name.to_owned()),
        visibility: Visibility::Public,
        status: ImageStatus::Active,
        disk_format: Some(disk.to_owned()),
        container_format: Some(container.to_owned()),
        blob: Some(digest.sha256.clone()),
        size: Some(digest.size),
        checksum: Some(digest.md5.clone()),
        os_hash_value: Some(digest.sha512.clone()),
        ..Image::new(uuid::Uuid::new_v4().to_string(), owner, now)
    }
}

async fn container(store: &Store, registry: &Registry, images: &Path) -> Result<(), Problem> {
    let file = images.join("tiny-oci.tar");
    if !file.is_file() {
        missing("container", images);
        return Ok(());
    }
    if let Err(why) = face_registry::import(registry, &file, NAME, "latest").await {
        say(format_args!("no container image {NAME}: {why}"));
        return Ok(());
    }
    store
        .transact(|snapshot| {
            let mut change = Change::new();
            if !marked(snapshot, CONTAINER_MARK) {
                change.create(Setting { name: CONTAINER_MARK.into(), value: json!(format!("{NAME}:latest")) });
            }
            Ok((change, ()))
        })
        .await?;
    tracing::info!("brought in the container image {NAME}:latest");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn images_come_once() {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("images");
        std::fs::create_dir(&files).unwrap();
        let (store, blobs) = (Store::memory(), Blobs::new(dir.path().join("blobs")));
        let registry = Registry::new(store.clone(), blobs.clone(), Arc::new(gate::Gate::new(store.clone())));
        let run = || async { import(&store, &blobs, &registry, &files).await.unwrap() };

        run().await;
        assert_eq!(store.snapshot().len(), 0, "without files nothing is made");

        for (name, bytes) in [("tiny.vmlinux", "kernel"), ("tiny.initrd", "initrd"), ("real.img", "disk")] {
            std::fs::write(files.join(name), bytes).unwrap();
        }
        std::os::unix::fs::symlink("real.img", files.join("tiny.img")).unwrap();
        std::fs::write(files.join("tiny-oci.tar"), "no tar file").unwrap();
        run().await;
        let snapshot = store.snapshot();
        let tiny = snapshot.all::<Image>().find(|i| i.name.as_deref() == Some("tiny")).unwrap();
        let kernel = snapshot.get::<Image>(&tiny.properties["kernel_id"]).unwrap();
        assert_eq!((kernel.size, tiny.size), (Some(6), Some(4)));
        assert_eq!(blobs.read(tiny.blob.as_deref().unwrap(), 100).unwrap(), b"disk");
        assert!(!marked(&snapshot, CONTAINER_MARK), "a spoilt file is tried again");

        let mut change = Change::new();
        change.delete(tiny);
        store.commit(&change).await.unwrap();
        run().await;
        assert_eq!(store.snapshot().all::<Image>().count(), 2, "what was deleted stays away");
    }
}

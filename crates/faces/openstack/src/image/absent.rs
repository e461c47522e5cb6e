//! What Glance has and this cloud has not.

use crate::service::Absent;

pub const ABSENT: Absent = &[
    ("/v2/cache", "A cache of images, which are where their bytes are,"),
    ("/v2/cached_images", "A cache of images, which are where their bytes are,"),
    ("/v2/queued_images", "A cache of images, which are where their bytes are,"),
    ("/v2/images/*/locations", "Locations of images elsewhere"),
    ("/v2/info/usage", "A report of usage; Neutron's quotas show `registry_size_total`,"),
    ("/v2/stores", "Several stores"),
    ("/v1", "The API of version 1, which ended with Rocky,"),
];

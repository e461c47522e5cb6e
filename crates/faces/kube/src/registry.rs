//! The kinds that every cluster has, with the graph of their types. Which a cluster has at one moment, those that it defines for
//! itself among them, `known` says. A global list of all was refused: a kind of one cluster must not be there in another.

use std::sync::{Arc, LazyLock};

use crate::kind::ApiResource;
use crate::kinds;
use crate::types::{self, Shape, Types};

struct BuiltIn {
    types: Arc<Types>,
    kinds: Vec<Arc<ApiResource>>,
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let mut kinds = kinds::all();
    let types = Arc::new(Types::of(&types::definitions(kinds.iter().flat_map(|k| k.schemas()))));
    for kind in &mut kinds {
        kind.shape = Shape::new(types.clone(), types.named(&kind.definition));
    }
    BuiltIn { types, kinds: kinds.into_iter().map(Arc::new).collect() }
});

/// The graph of the built-in kinds and of what their subresources take; made at the first use.
pub fn types() -> &'static Arc<Types> {
    &BUILT_IN.types
}

/// The shape of one of Kubernetes' own types, by its definition: `io.k8s.api.core.v1.Pod`.
pub fn shape_of(definition: &str) -> Shape {
    Shape::new(types().clone(), types().named(definition))
}

/// Every kind that all clusters have, in the order of discovery.
pub fn built_in() -> &'static [Arc<ApiResource>] {
    &BUILT_IN.kinds
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::kind::{ApiResource, schema};
    use crate::strategy::Plain;

    /// A kind is given by a role, or says why by none: `given` has no value that means that nobody thought of it, and the
    /// one that custom kinds have is not for these.
    #[test]
    fn every_kind_has_a_place_in_the_roles() {
        let custom = ApiResource::with_schema(schema::<ConfigMap>, Plain).given;
        let forgotten: Vec<&Arc<ApiResource>> = built_in().iter().filter(|kind| kind.given == custom).collect();
        assert!(forgotten.is_empty(), "in no role, without a reason: {forgotten:?}");
        for kind in built_in() {
            assert!(
                model::is_kubernetes_group(&kind.group),
                "{} is not listed as one of Kubernetes' groups",
                kind.group
            );
        }
    }
}

//! State primitives that list hosts and resources.
//!
//! Lists have one name a line, in natural order; `count-…` gives their length.
//!
//! Manual: "Predefined Primitive Macros".

use super::eval::Eval;
use super::state::host_arg;

/// The lists of hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Everybody ever heard of.
    Cluster,
    /// Members of the resource.
    Resource,
    /// Guests of the resource.
    Guest,
    /// Hosts with an address.
    Configured,
}

impl Hosts {
    /// All lists with the first words of their names.
    pub const ALL: [(Hosts, &'static str); 4] = [
        (Hosts::Cluster, "cluster"),
        (Hosts::Resource, "resource"),
        (Hosts::Guest, "guest"),
        (Hosts::Configured, "configured"),
    ];
}

/// As [`host_list`], under the name of older versions.
pub fn old_host_list(eval: &mut Eval<'_>, which: Hosts, count: bool) -> String {
    let named = Hosts::ALL.into_iter().find(|(hosts, _)| *hosts == which);
    let (prefix, word) = (
        if count { "count-" } else { "" },
        named.map_or("", |(_, word)| word),
    );
    eval.warn(&format!(
        "DEPRECATED: macro '{prefix}{word}-members' should be replaced by '{prefix}{word}-peers'"
    ));
    host_list(eval, which, count)
}

/// A list of hosts, one a line, or their number. Hosts taken out of the cluster are not counted in reports.
pub fn host_list(eval: &Eval<'_>, which: Hosts, count: bool) -> String {
    let (world, res) = (eval.world, eval.res());
    let hosts = match which {
        Hosts::Cluster => world.cluster_peers().to_vec(),
        Hosts::Resource => res.members(),
        Hosts::Guest => res.guests(),
        Hosts::Configured => world.configured_peers(),
    };
    let shown = hosts
        .into_iter()
        .filter(|host| eval.options.ignore_deleted_peers == 0 || !world.is_decommissioned(host));
    lines(shown, count)
}

/// The lists of resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Those in which the host takes part in any way.
    MyResources,
    /// Those of which it stores a replica.
    MyMembers,
    /// Those whose device it only uses.
    MyGuests,
    /// All.
    AllResources,
    /// All with a replica somewhere.
    AllMembers,
    /// All with a guest somewhere.
    AllGuests,
}

impl Names {
    /// All lists by name.
    pub const ALL: [(Names, &'static str); 6] = [
        (Names::MyResources, "my-resources"),
        (Names::MyMembers, "my-members"),
        (Names::MyGuests, "my-guests"),
        (Names::AllResources, "all-resources"),
        (Names::AllMembers, "all-members"),
        (Names::AllGuests, "all-guests"),
    ];
}

/// A list of resources, one a line, or their number.
pub fn name_list(eval: &Eval<'_>, which: Names, count: bool, args: &[String]) -> String {
    let (world, host) = (eval.world, host_arg(eval, args, 0));
    let names = match which {
        Names::MyResources => world.resources_of(&host),
        Names::MyMembers => world.filtered(|res| res.is_member(&host)),
        Names::MyGuests => world.filtered(|res| res.is_guest(&host)),
        Names::AllResources => world.resource_names().to_vec(),
        Names::AllMembers => world.filtered(|res| !res.members().is_empty()),
        Names::AllGuests => world.filtered(|res| !res.guests().is_empty()),
    };
    lines(names.into_iter(), count)
}

fn lines<'a>(names: impl Iterator<Item = &'a str>, count: bool) -> String {
    if count {
        return names.count().to_string();
    }
    names.map(|name| format!("{name}\n")).collect()
}

"""The words by which people name kinds on the command line (`statements.md` C.4, decision D14). Pure; any thread."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final

_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "GlobalNetworkPolicy": ("globalnetworkpolicy", "globalnetworkpolicies", "gnp", "gnps"),
    "NetworkPolicy": ("networkpolicy", "networkpolicies", "np", "nps"),
    "HostEndpoint": ("hostendpoint", "hostendpoints", "hep", "heps"),
    "WorkloadEndpoint": ("workloadendpoint", "workloadendpoints", "wep", "weps"),
    "Profile": ("profile", "profiles", "pro", "pros"),
    "NetworkSet": ("networkset", "networksets", "netset", "netsets"),
    "GlobalNetworkSet": ("globalnetworkset", "globalnetworksets", "gnetset", "gnetsets"),
    "Tier": ("tier", "tiers"),
    "Node": ("node", "nodes", "no", "nos"),
    "IPPool": ("ippool", "ippools", "ipp", "ipps", "pool", "pools"),
    "ClusterInformation": ("clusterinformation", "clusterinformations", "clusterinfo", "clusterinfos"),
    "FelixConfiguration": ("felixconfiguration", "felixconfigurations", "felixconfig", "felixconfigs"),
    "KubeControllersConfiguration": (
        *("kubecontrollersconfiguration", "kubecontrollersconfigurations"),
        *("kubecontrollersconfig", "kubecontrollersconfigs"),
    ),
    "KubernetesEndpointSlice": ("kubernetesendpointslice", "kubernetesendpointslices"),
    "StagedGlobalNetworkPolicy": ("stagedglobalnetworkpolicy", "stagedglobalnetworkpolicies", "sgnp", "sgnps"),
    "StagedNetworkPolicy": (
        *("stagednetworkpolicy", "stagednetworkpolicies", "stagedpolicy", "stagedpolicies"),
        *("snp", "snps", "spol", "spols"),
    ),
    "StagedKubernetesNetworkPolicy": (
        *("stagedkubernetesnetworkpolicy", "stagedkubernetesnetworkpolicies", "stagedkubernetespolicy"),
        *("stagedkubernetespolicies", "sknp", "sknps", "skpol", "skpols"),
    ),
}
POLICY_WORDS: Final = frozenset(("policy", "policies", "pol", "pols"))
"""In v1 a global policy, in v3 a namespaced one: here both, as D14 says."""
_BY_WORD: Final = {word: kind for kind, words in _WORDS.items() for word in words}


def words() -> list[str]:
    """Every word that means a kind: the longest first word of each, then the short ones."""
    full = [first for first, *_ in _WORDS.values()]
    return [*full, *sorted({*_BY_WORD, *POLICY_WORDS} - set(full))]


def named(word: str, namespace: str | None) -> tuple[str, ...] | None:
    """The kinds that a word of any case means; None for an unknown word.

    `policy` means global and namespaced policies; with a namespace the namespaced ones only (D14).
    """
    folded = word.lower()
    if folded in POLICY_WORDS:
        return ("NetworkPolicy",) if namespace else ("GlobalNetworkPolicy", "NetworkPolicy")
    kind = _BY_WORD.get(folded)
    return (kind,) if kind else None


def unknown(word: str) -> str:
    """What to tell somebody who used an unknown word."""
    close = get_close_matches(word.lower(), [*_BY_WORD, *POLICY_WORDS], 1, 0.75)
    known = f"did you mean {close[0]!r}?" if close else f"known are policy, {', '.join(words[0] for words in _WORDS.values())}"
    return f"resource type {word!r} is not supported; {known}"

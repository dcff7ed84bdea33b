"""Libraries of the agent, in a shipped and in a planted build."""

load("@rules_cc//cc:defs.bzl", "cc_library")

def agent_library(name, deps = [], agent_deps = [], **kwargs):
    """A part of the agent whose sources may hold planted defects.

    Makes `name`, and `name_planted`: the same sources with the defects of
    agent/planted.h compiled in, only for tests, which provide
    `reprise::IsPlanted`. A program links one of the two builds.

    Args:
      name: the library.
      deps: what both builds share.
      agent_deps: other agent_library targets; the planted build depends on
        their planted builds.
      **kwargs: anything else that cc_library takes.
    """
    cc_library(
        name = name,
        deps = deps + agent_deps,
        **kwargs
    )
    cc_library(
        name = name + "_planted",
        testonly = True,
        local_defines = ["REPRISE_WITH_PLANTED_DEFECTS"],
        deps = deps + [_planted(label) for label in agent_deps],
        **kwargs
    )

def _planted(label):
    if ":" in label:
        return label + "_planted"
    return "{}:{}_planted".format(label, label.split("/")[-1])

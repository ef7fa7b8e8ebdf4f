"""A plugin of pytest's: thinc's tests of its optimizers, with ours in their place."""

import thinc.api
import thinc.optimizers

import fusedopt.thinc as ours

for module in (thinc.api, thinc.optimizers):
    module.Optimizer = ours.Optimizer
    module.Adam, module.SGD = ours.Adam, ours.SGD
thinc.api.registry.optimizers.register("Adam.v1", func=ours.Adam)
thinc.api.registry.optimizers.register("SGD.v1", func=ours.SGD)

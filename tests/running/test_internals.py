"""Where the code reaches into Ray: what would be without effect, and not be noticed, once it is elsewhere."""

import ray.train
from ray.train.torch import TorchTrainer

from trainables import worker


def test_the_actor_that_frees_groups_is_all_that_our_trainer_leaves_out() -> None:
    kinds: tuple[type[TorchTrainer], ...] = (TorchTrainer, worker._Trainer)
    trainers = [kind(lambda: None, scaling_config=ray.train.ScalingConfig(num_workers=2)) for kind in kinds]
    theirs, ours = ({type(c).__name__ for c in trainer._create_default_callbacks()} for trainer in trainers)
    assert theirs - ours == {"PlacementGroupCleanerCallback"}
    assert ours < theirs

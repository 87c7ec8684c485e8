"""A small ablation file, for reports."""

TABLE = """\
name: toy
paper: {file: backmix, table: IV, title: A toy}
base:
  {protocol: digits, backbone: wrn10-1, epochs: 2, batch_size: 64, images_per_class: 60, score: mls}
splits: [0, 1, 2]
seeds: [0, 1]
columns:
  Acc.: test/accuracy
  AUROC: test/auroc
  IN30: published
rows:
  - {name: Theirs, published: {Acc.: 50.0, AUROC: 60.0}}
  - {name: Plain, set: {method: plain}, published: {Acc.: 10.0, AUROC: 70.5, IN30: 89.9}}
  - {name: BackMix & more, set: {method: backmix}, published: {Acc.: 11.0, AUROC: 71.5}}
claims:
  - {row: BackMix & more, over: Plain, columns: [Acc., AUROC]}
figures: [accuracy-auroc, norms, uncertainty, confidence, class-distances, feature-space, masks, teacher]
"""

"""Shows what training sees: how many images, their shapes, and one picture with its mask.

python src/test_dataset.py    output/sample.png, of the images of output/train_folds.csv

The whole data set is looked at by src/look.py.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

from collections.abc import Sequence

from core.errors import script
from core.flags import load_config
from core.quantities import counted


@script
def main(argv: Sequence[str] | None = None) -> int:
    """Writes OUTPUT/sample.png: images as they are above, augmented below."""
    config, _ = load_config(argv, description=__doc__)
    from runs.fold_table import read_fold_table

    table = read_fold_table(config.FOLDS_CSV)  # missing or broken: told before torch comes in

    import numpy as np

    from competition.masks import build_masks
    from dataset import SegmentationDataset
    from imaging.drawings import TRUTH, draw_contours, tile, to_rgb, write_sheet
    from Lightning_datamodule import rows_in
    from runs.experiment import competition_of, data_spec

    rows = rows_in(table)
    masks = build_masks(competition_of(config))
    tiles = []
    for augment in (None, config.AUGMENTATION):
        dataset = SegmentationDataset(
            rows,
            config.INPUT,
            spec=data_spec(config),
            masks=masks,
            augment=augment,
            mixes=config.MIX,
            seed=config.SEED,
            foreground=config.FOREGROUND_CROPS,
        )
        for at in np.linspace(0, len(dataset) - 1, min(4, len(dataset))).astype(int).tolist():
            sample = dataset[(at, 0)]
            image = to_rgb(sample["image"].permute(1, 2, 0).numpy())
            title = sample["img"] + (f", {augment}" if augment else "")
            tiles.append(tile(draw_contours(image, sample["mask"].numpy(), TRUTH), title))
    shapes = ", ".join(f"{key} {tuple(sample[key].shape)}" for key in ("image", "mask"))
    path = config.OUTPUT / "sample.png"
    write_sheet(path, tiles, columns=min(4, len(rows)))
    print(f"{counted(len(rows), 'image')}; {shapes}, {sample['image'].dtype}")
    print(f"drew {counted(len(tiles), 'sample')}, as they are and augmented: {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

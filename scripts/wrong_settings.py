"""A small run for each option in conf/, whose keys `scripts/wrong_values.py` gives other values."""

from __future__ import annotations

import shutil
from pathlib import Path

import pretrained
from command import lth_run
from test_glue import published as glue_files
from test_squad import QUESTIONS
from test_squad import published as squad_files
from test_streaming import shard
from test_tagged import files as tagged_files
from test_text import BERT_TOKENS, bert_file
from test_token_files import written

CONF = Path(__file__).parents[1] / "conf"
RUN = (
    "+scale=smoke", "device=cpu", "threads=1", "record=local", "probe=none", "control=none",
    "train=sgd", "train.batch_size=10", "name=wrong",
)  # fmt: skip
SYNTHETIC = ("dataset=synthetic", "dataset.num_train=60", "dataset.num_test=20")
PERCEPTRON = ("model=mlp", "model.widths=[8]")
SMALL = (*RUN, *SYNTHETIC, *PERCEPTRON)
IMAGES = (*RUN, *SYNTHETIC, "dataset.shape=[3,16,16]", "max_samples=20")
PHOTOS = ("dataset.shape=[3,224,224]", "dataset.num_classes=2", "dataset.cache={files}/cache")
TEXTS = (*RUN, "model=transformer", "model.width=8", "model.depth=1", "model.heads=2")
NEXT = (*RUN, "objective=next_token", "model=causal_transformer", *TEXTS[-3:])
CIPHER = (*NEXT, "dataset.num_train=40", "dataset.num_test=20", "dataset.validation=20",
          "dataset.length=24")  # fmt: skip
ROWS = (*CIPHER, "dataset=cipher_answers", "coordinates=delta", "train.optimizer.weight_decay=0",
        "coordinates.only=[trunk.token_embedding.weight]", "pruner=ks_lottery",
        "pruner.alpha=null", "pruner.num_rows=4", "control=none")  # fmt: skip
ADAPTERS = (*TEXTS, "dataset=text", "dataset.root={files}/texts", "coordinates=low_rank",
            "coordinates.rank=2")  # fmt: skip
SPLIT = (*ADAPTERS, "pruner=partial_lora", "pruner.ratios=even", "pruner.sparsity=0.5",
         "pruner.rate=null", "pruner.rounds=null")  # fmt: skip
POPULATION = (*SYNTHETIC, *PERCEPTRON, "train.length=4it")
FLOW = (*RUN, "dataset=weight_flow", "dataset.run={files}/outputs/population", "model=velocity",
        "dataset.components=2", "objective=regression", "model.width=8")  # fmt: skip
LIKE_OTHERS = {"conv4", "conv6", "resnet32", "resnet56", "vgg16", "vgg19"}  # in their keys
SETTINGS: dict[str, tuple[str, ...]] = {
    "root": SMALL,
    **{f"model/{name}": (*IMAGES, f"model={name}")
       for name in sorted({file.stem for file in (CONF / "model").glob("*.yaml")} - LIKE_OTHERS)},
    **{f"{group}/{file.stem}": (*SMALL, f"{group}={file.stem}")
       for group in ("pruner", "control", "probe", "rewind", "train", "train/learning_rate",
                     "covers", "record")
       for file in sorted((CONF / group).glob("*.yaml"))
       if file.stem not in ("none", "given", "embeddings")},
    **{f"pruner/{name}": (*SMALL, f"pruner={name}", "model.norm=batch")
       for name in ("early_bird", "early_bird_channels", "early_bird_stop")},
    "probe/retention": (*SMALL, "probe=retention", "origin=run",
                        "origin.run={files}/outputs/wrong"),
    "probe/attention": (*RUN, "model=hf", "model.path={files}/bert", "dataset=text",
                        "dataset.length=8", "dataset.root={files}/texts",
                        "dataset.vocabulary=40", "covers=transformer", "probe=attention"),
    "rewind/open_lth": (*SMALL, "rewind=open_lth", "rewind.step=10it"),
    "rewind/step": (*SMALL, "rewind=step", "rewind.step=10it"),
    "rewind/partial": (*SMALL, "rewind=partial", "rewind.only=[output]"),
    "covers/transformer": (*TEXTS, "dataset=text", "dataset.root={files}/texts",
                           "covers=transformer"),
    "pruner/given": (*SMALL, "pruner=given", "pruner.ticket={files}/outputs/wrong"),
    "augment/cutout": (*IMAGES, "model=conv2", "+augment=cutout"),
    "augment/randaugment": (*IMAGES, "model=conv2", "+augment=randaugment"),
    "coordinates/delta": (*SMALL, "coordinates=delta", "coordinates.only=['*weight']"),
    "coordinates/gaussian": (*SMALL, "coordinates=gaussian"),
    "coordinates/low_rank": ADAPTERS,
    **{f"pruner/{name}": (*SMALL, f"pruner={name}", "coordinates=gaussian")
       for name in ("mean_magnitude", "mean_square", "signal_to_noise", "lexicographic")},
    "pruner/ks_lottery": ROWS,
    **{f"control/{name}": (*ROWS, f"control={name}")
       for name in ("random_rows", "lowest_rows", "frequent_rows", "template_rows")},
    "pruner/partial_lora": SPLIT,
    **{f"control/{name}": (*SPLIT, f"control={name}")
       for name in ("even_ratios", "shuffled_ratios", "targeted")},
    "pruner/partial_lora/derived": (*SPLIT, "pruner.ratios=derived"),
    "control/shuffle_layers": (*TEXTS, "model.depth=2", "dataset=text", "covers=transformer",
                               "dataset.root={files}/texts", "control=shuffle_layers"),
    **{f"probe/{name}": (*ROWS, f"probe={name}") for name in ("certificate", "generation")},
    "probe/generation": (*ROWS, "probe=generation", "probe.generation.newline=2"),
    "probe/rebasin": (*SMALL, "probe=rebasin", "replicates=2"),
    "probe/generated": (*FLOW, "probe=generated"),
    "probe/calibration": (*SMALL, "probe=calibration"),
    "origin/run": (*SMALL, "origin=run", "origin.run={files}/outputs/wrong"),
    "origin/hf": (*RUN, "model=hf", "origin=hf", "model.path={files}/bert", "dataset=text",
                  "dataset.length=8", "dataset.root={files}/texts", "dataset.vocabulary=40"),
    "origin/file": (*SMALL, "origin=file", "origin.path={files}/weights.safetensors"),
    "origin/generated": (*RUN, *POPULATION, "origin=generated",
                         "origin.run={files}/outputs/flow"),
    "objective/next_token": (*CIPHER, "dataset=cipher_records"),
    "objective/masked_token": (*RUN, "objective=masked_token", "model=masked_transformer",
                               *TEXTS[-3:], "dataset=masked_characters",
                               "dataset.path={files}/long.txt", "dataset.cache={files}/cache"),
    "objective/regression": (*RUN, "dataset=diabetes", "objective=regression", *PERCEPTRON,
                             "model.num_classes=1"),
    "objective/correlation": (*RUN, "dataset=diabetes", "objective=correlation", *PERCEPTRON,
                              "model.num_classes=1"),
    **{f"objective/{name}": (*SMALL, f"objective={name}") for name in ("classification", "f1")},
    "objective/matthews": (*SMALL, "dataset.num_classes=2", "objective=matthews"),
    "dataset/synthetic": SMALL,
    "dataset/digits": (*RUN, "dataset=digits", *PERCEPTRON),
    "dataset/digits28": (*RUN, "dataset=digits28", *PERCEPTRON),
    "dataset/diabetes": (*RUN, "dataset=diabetes", "objective=regression", *PERCEPTRON,
                         "model.num_classes=1"),
    "dataset/digit_scenes": (*RUN, "dataset=digit_scenes", "dataset.num_train=40",
                             "dataset.num_test=20", "model=unet"),
    "dataset/imagefolder": (*RUN, "dataset=imagefolder", "dataset.root={files}/images",
                            "dataset.num_classes=2", "dataset.cache={files}/cache", *PERCEPTRON,
                            "dataset.shape=[3,8,8]"),
    "dataset/text": (*TEXTS, "dataset=text", "dataset.root={files}/texts"),
    "dataset/glue": (*TEXTS, "dataset=glue", "dataset.task=cola", "dataset.root={files}/glue",
                     "dataset.tokenizer.path={files}", "dataset.validation=0",
                     f"dataset.vocabulary={BERT_TOKENS}", "dataset.length=12",
                     "dataset.cache={files}/cache", "train.batch_size=2"),
    "dataset/squad": (*RUN, "dataset=squad", "dataset.root={files}/squad", "objective=span",
                      "dataset.tokenizer.path={files}", "dataset.validation=0",
                      "dataset.cache={files}/cache", f"dataset.vocabulary={BERT_TOKENS}",
                      f"+model.config.vocab_size={BERT_TOKENS}", "dataset.length=16",
                      "dataset.stride=4", "model=hf", "model.path={files}/bert",
                      "model.task=question_answering", "train.batch_size=2"),
    "dataset/tagged": (*RUN, "dataset=tagged", "dataset.root={files}/tagged", "objective=tagging",
                       "dataset.tokenizer.path={files}", "dataset.num_classes=3",
                       "dataset.cache={files}/cache", f"dataset.vocabulary={BERT_TOKENS}",
                       f"+model.config.vocab_size={BERT_TOKENS}", "dataset.length=16", "model=hf",
                       "model.path={files}/bert", "model.task=token_classification",
                       "train.batch_size=2"),
    "dataset/cipher_records": (*CIPHER, "dataset=cipher_records"),
    "dataset/cipher_answers": (*CIPHER, "dataset=cipher_answers"),
    "dataset/token_files": (*NEXT, "dataset=token_files", "dataset.root={files}/tokens",
                            "dataset.vocabulary=41", "dataset.length=10",
                            "dataset.cache={files}/cache"),
    "dataset/shards": (*RUN, "dataset=shards", "dataset.root={files}/shards", *PHOTOS,
                       "dataset.validation=8", *PERCEPTRON),
    "dataset/imagenet": (*RUN, "dataset=imagenet", "dataset.root={files}/images", *PHOTOS,
                         "dataset.validation=8", *PERCEPTRON),
    "dataset/transforms/imagenet": (*RUN, "dataset=imagenet", "dataset.root={files}/images",
                                    *PHOTOS, "dataset.validation=8", *PERCEPTRON),
    "dataset/custom": (*RUN, "dataset=custom", *PERCEPTRON, "dataset.shape=[3,8,8]",
                       "dataset.num_classes=10", "dataset.workers=0",
                       *(word for split in ("train", "test") for word in (
                           f"dataset.{split}._target_=torchvision.datasets.FakeData",
                           f"+dataset.{split}.size=40", f"+dataset.{split}.image_size=[3,8,8]",
                           f"+dataset.{split}.transform._target_=torchvision.transforms.v2.ToTensor"
                       ))),
    "dataset/weight_flow": FLOW,
    "dataset/masked_corpus": (*RUN, "objective=masked_token", "model=masked_transformer",
                              *TEXTS[-3:], "dataset=masked_corpus",
                              "dataset.path={files}/long.txt", "dataset.tokenizer.path={files}",
                              "dataset.length=16", f"dataset.vocabulary={BERT_TOKENS}",
                              "dataset.cache={files}/cache"),
    **{f"dataset/tokenizer/{name}": (*TEXTS, "dataset=text", "dataset.root={files}/texts",
                                     f"dataset/tokenizer={name}", "dataset.vocabulary=300")
       for name in ("bytes", "characters", "words")},
    "dataset/tokenizer/file": (*TEXTS, "dataset=text", "dataset.root={files}/texts",
                               "dataset/tokenizer=file", "dataset.tokenizer.path={files}",
                               f"dataset.vocabulary={BERT_TOKENS}"),
    "dataset/characters": (*NEXT, "dataset=characters", "dataset.path={files}/long.txt",
                           "dataset.cache={files}/cache"),
    "dataset/masked_characters": (*RUN, "objective=masked_token", "model=masked_transformer",
                                  *TEXTS[-3:], "dataset=masked_characters",
                                  "dataset.path={files}/long.txt", "dataset.cache={files}/cache"),
    "dataset/corpus": (*NEXT, "dataset=corpus", "dataset.path={files}/long.txt",
                       "dataset.tokenizer.path={files}", "dataset.length=16",
                       f"dataset.vocabulary={BERT_TOKENS}", "dataset.cache={files}/cache"),
    "model/mlp": SMALL,
    "model/resnet50": (*IMAGES, "model=resnet50", "dataset.shape=[3,32,32]"),
    "model/lenet300": (*RUN, *SYNTHETIC, "model=lenet300"),
    "model/unet": (*RUN, "dataset=digit_scenes", "dataset.num_train=40", "dataset.num_test=20",
                   "model=unet"),
    "model/vit": (*IMAGES, "model=vit", "model.width=12", "model.depth=1"),
    "model/deit": (*IMAGES, "model=deit", "model.width=12", "model.depth=1", "model.heads=2"),
    "model/torchvision": (*IMAGES, "model=torchvision", "model.name=squeezenet1_1",
                          "dataset.shape=[3,32,32]"),
    "model/custom": (*SMALL[:-2], "model=custom", "model._target_=torch.nn.Linear",
                     "~model.shape", "~model.num_classes", "+model.in_features=8",
                     "+model.out_features=10", "dataset.shape=[8]"),
    "model/velocity": FLOW,
    "model/masked_transformer": (*RUN, "objective=masked_token", "model=masked_transformer",
                                 *TEXTS[-3:], "dataset=masked_characters",
                                 "dataset.path={files}/long.txt",
                                 "dataset.cache={files}/cache"),
    "model/transformer": (*TEXTS, "dataset=text", "dataset.root={files}/texts"),
    "model/causal_transformer": (*NEXT, "dataset=characters", "dataset.path={files}/long.txt",
                                 "dataset.cache={files}/cache"),
    "model/hf": (*RUN, "model=hf", "model.path={files}/bert", "dataset=text", "dataset.length=8",
                 "dataset.root={files}/texts", "dataset.vocabulary=40"),
}  # fmt: skip
CHOSEN = {  # of each budget the keys where it is the one chosen, before pruners that have them too
    f"pruner/budgets/{scope}/chosen": (*SMALL, "pruner=one_shot", f"pruner.scope={scope}", *more)
    for scope, more in {
        "layerwise": (), "uniform": ("model.widths=[8,64]",), "er": (),
        "given": ("pruner.densities={linear1:0.5,output:0.5}",),
        "smart_ratio": (), "n_of_m": (), "rows": (), "channels": (), "blocks": (), "deviation": (),
    }.items()
}  # fmt: skip
SETTINGS = {**CHOSEN, **SETTINGS, "objective/span": SETTINGS["dataset/squad"],
            "objective/tagging": SETTINGS["dataset/tagged"]}  # fmt: skip
PARTS_OF_OTHERS = {  # options whose parts are those of others that have a setting
    *(f"model/{name}" for name in LIKE_OTHERS), "covers/embeddings", "coordinates/weights",
}  # fmt: skip
LEFT_OUT = {  # and what else has none
    "a download": {
        "dataset/cifar10", "dataset/cifar100", "dataset/mnist",
        "dataset/fashion_mnist", "dataset/kmnist", "dataset/svhn",
        "dataset/sst2", "dataset/trec", "origin/torchvision",
    },
    "the library datasets": {"dataset/hf", "dataset/hf_images"},
    "data of several labels a sample": {"objective/multi_label"},
    "names of files from elsewhere": {"pruner/rename/open_lth_cifar_resnet_20",
                                      "pruner/rename/open_lth_mnist_lenet"},
}  # fmt: skip


def files(folder: Path) -> None:
    """What the settings read: texts, images, a network, a run."""
    from PIL import Image

    (folder / "texts").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{number % 2}\tword{number % 7} and {number % 5}" for number in range(40)]
        (folder / f"texts/{name}.tsv").write_text("\n".join(["label\ttext", *lines, ""]))
        for kind in ("a", "b"):
            (folder / f"images/{name}/{kind}").mkdir(parents=True)
            for number in range(15):
                picture = Image.new("RGB", (8, 8), (number, 2 * number, 200))
                picture.save(folder / f"images/{name}/{kind}/{number}.png")
    (folder / "long.txt").write_text("the cat sat on the mat, and that was that. " * 200)
    bert_file(folder)
    (folder / "squad").mkdir()
    squad_files(folder / "squad", QUESTIONS)
    glue_files(folder / "glue", "cola")
    tagged_files(_made(folder / "tagged"))
    pretrained.folder(folder / "bert", head="ForSequenceClassification")
    written(_made(folder / "tokens"))
    for number, split in enumerate(("train", "test")):
        pictures = sorted((folder / f"images/{split}").glob("*/*.png"))
        tar = {
            f"{kind}.{part}": content
            for kind, picture in enumerate(pictures)
            for part, content in (("png", picture.read_bytes()), ("cls", str(number).encode()))
        }
        shard(_made(folder / "shards") / f"{split}-000.tar", tar)
    for words in (
        SMALL,
        (*RUN, *POPULATION, "name=population", "replicates=4", "pruner=magnitude_at_init",
         "pruner.sparsity=0.5", "pruner.rate=null", "pruner.rounds=null", "pruner.retrain=false"),
        (*FLOW, "name=flow", "replicates=1", "pruner=magnitude_at_init", "pruner.sparsity=0.5",
         "pruner.rate=null", "pruner.rounds=null", "pruner.retrain=false", "probe=generated",
         "probe.generated.num=2", "probe.generated.sampler.num_steps=2"),
    ):  # fmt: skip
        here = [word.replace("{files}", str(folder)) for word in words]
        said = lth_run(*here, f"paths.outputs={folder}/outputs")
        assert said.status == 0, said.err
    ticket = next((folder / "outputs/wrong").rglob("*.safetensors"))
    shutil.copy(ticket, folder / "weights.safetensors")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder

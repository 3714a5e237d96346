"""Images and data sets: from files to pixels, and back to them.

`import simplenet_jax.data.builders` registers the TFDS builders `mvtec_ad` and
`cifar10_one_class`.
"""

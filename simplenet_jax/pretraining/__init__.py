"""Trains the demo's small backbone on procedurally generated images.

`python -m simplenet_jax.pretraining --output=DIR` makes the file that ships as
`simplenet_jax/assets/demo_resnet.safetensors`. Nothing here is imported by the
rest of the package.
"""

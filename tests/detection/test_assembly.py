"""What assembled detectors say of themselves."""

from simplenet_jax.detection import assembly
from tests.detection import detectors


def test_no_folder_of_the_machine_is_kept(tmp_path):
  config = detectors.make_config()
  config.data.root = f'{tmp_path}/parts'
  made = assembly.assemble(
    config,
    'part',
    (32, 40),
    detectors.backbone(),
    [detectors.make_head(0)],
    {'data': {'root': config.data.root}},
    cautions=['its heads have learned nothing'],
  )
  assert made.card.provenance['config']['data']['root'] == 'parts'
  assert made.card.provenance['data'] == {'root': 'parts'}
  assert str(tmp_path) not in made.card.to_json()
  assert made.card.cautions == ('its heads have learned nothing',)

import pytest

import sanslabel


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Run folders by method, of a short training on digits, each made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("generation"), {}

    def run(method: str, **options):
        key = (method, *sorted(options.items()))
        if key not in made:
            out = folder / f"{method}-{len(made)}"
            made[key] = sanslabel.train("digits", method=method, epochs=1, batch=128, out=out, **options).path
        return made[key]

    return run

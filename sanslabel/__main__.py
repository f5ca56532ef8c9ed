from sanslabel.cli import main

main()

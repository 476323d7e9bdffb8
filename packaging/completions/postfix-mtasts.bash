# bash completion of postfix-mtasts(1), for bash 4.4 and later.
# It needs nothing of the package bash-completion, which merely finds it.
# tests/test_completions.py holds it to the options that there are.

_postfix_mtasts() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
    local verb='' action='' names='' options='-h --help --config' i

    # "--config=FILE" comes in three words.
    if [[ $cur == = ]]; then
        cur=''
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi

    COMPREPLY=()
    case $prev in
        --config | --log)
            compopt -o filenames -o default 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
            ;;
        --output)
            compopt -o filenames -o default 2>/dev/null
            mapfile -t COMPREPLY < <(compgen -d -- "$cur")
            return
            ;;
        --map)
            names='policy policy-tlsrpt requiretls explain postfix QUERY QUERYwithTLSRPT'
            mapfile -t COMPREPLY < <(compgen -W "$names" -- "$cur")
            return
            ;;
        --day | --domain | --resend | --year)
            return
            ;;
    esac

    for ((i = 1; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
            --config | --day | --domain | --log | --map | --output | --resend | --year)
                [[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
                ((i++))
                ;;
            -*) ;;
            *)
                if [[ -z $verb ]]; then
                    verb=${COMP_WORDS[i]}
                elif [[ -z $action ]]; then
                    action=${COMP_WORDS[i]}
                fi
                ;;
        esac
    done

    case $verb in
        '')
            names='serve collect report query cache doctor config'
            options+=' --version'
            ;;
        serve) ;;
        collect) options+=' --once --log --year' ;;
        report) options+=' --day --domain --now --print --output --list --resend --cron --json' ;;
        query) options+=' --map --direct --json' ;;
        cache)
            case $action in
                '') names='list show refresh purge' ;;
                list | show | refresh) options+=' --json' ;;
                purge) options+=' --json --all' ;;
                *) return ;;
            esac
            ;;
        doctor) options+=' --json --apply --undo --yes' ;;
        config)
            case $action in
                '') names='check show' ;;
                check) ;;
                show) options+=' --json' ;;
                *) return ;;
            esac
            ;;
        *) return ;;
    esac

    if [[ $cur == -* || -z $names ]]; then
        names=$options
    fi
    mapfile -t COMPREPLY < <(compgen -W "$names" -- "$cur")
}

complete -F _postfix_mtasts postfix-mtasts
